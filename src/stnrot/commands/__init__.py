"""The commands of `stnrot`, thin over what can be called from Python."""
