"""What goes over the wire: bytes to facts and one API's words to another's. No effects.

- `peek`: what routing needs of a request, and the request with another ``model``
- `sse`: events of a stream out of bytes
- `scanning`: what a passing stream says of itself (first token, usage, end), byte for byte
- `usage`: tokens of an answer, counted alike for all APIs
- `translate_request`, `translate_response`, `translate_stream`: between Anthropic's messages and
  OpenAI's chat completions, both ways
- `envelopes`: errors as each API writes them, read and written
- `count_tokens`: an estimate for upstreams that cannot count
"""
