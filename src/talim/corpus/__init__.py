"""From recordings to clips with words, rights and a fair split; numpy only."""
