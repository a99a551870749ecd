"""Asking anchors over HTTP: prompts and graders, the journal, the budget, the requests."""
