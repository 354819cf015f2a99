"""The nano family: real miniature base models that ship with the package and run on any machine."""
