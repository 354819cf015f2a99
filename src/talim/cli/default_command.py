"""A command group that runs one of its commands when the first argument names none of them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultCommandGroup(TyperGroup):
    """`talim listen DIR` is `talim listen serve DIR`: the first command of the group is its default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command, except before a command's name and before --help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)
