"""The gateway: an HTTP server that puts the router in front of upstreams (DESIGN 2.4)."""
