"""`talim serve`: music over HTTP, for plug-ins and web sites."""
