"""One module for each kind of source that recordings come from; `table` knows them all."""
