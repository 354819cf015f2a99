"""The local app: every step of the work as a page in the browser; each runs a `talim` command in one folder."""
