"""Files of prompts in, files of assignments out: batches that need not fit in memory."""
