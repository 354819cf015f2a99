"""What can be found wrong with a training before torch is loaded: the corpus, and the run that the folder holds."""

from __future__ import annotations

from pathlib import Path

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe
from talim.run import Run


def check_recipe(run: Run, recipe: Recipe) -> Corpus:
    """The recipe's corpus; TalimError where it cannot be trained on, UsageError where `run` holds another recipe."""
    corpus = Corpus.load(Path(recipe.corpus))
    if not corpus.train:
        raise TalimError(f"{corpus.folder}: no training clips; run `talim prepare` on more recordings")
    if not corpus.held_out:
        raise TalimError(f"{corpus.folder}: no held-out clips to score on; prepare more recordings")
    _check_same_recipe(run, recipe, corpus)
    return corpus


def _check_same_recipe(run: Run, recipe: Recipe, corpus: Corpus) -> None:
    """UsageError where the folder holds a run of another recipe or corpus, naming the differences."""
    if not run.recipe_file.is_file():
        return
    changes = recipes.recipe_differences(run.recipe, recipe)
    differences = [f"{key} ({there} there, {here} now)" for key, (there, here) in changes.items()]
    if run.facts_file.is_file() and read_json(run.facts_file)["corpus_hash"] != corpus.hash:
        differences.append("the corpus's content")
    if differences:
        raise UsageError(f"{run.folder}: holds another run: {', '.join(differences)}; choose another --out")
