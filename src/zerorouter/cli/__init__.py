"""The command line: results to standard output, progress to standard error."""
