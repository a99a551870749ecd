"""``zerorouter serve --workers N``: several processes that serve as one.

    supervisor -- starts the workers, restarts one that dies, passes signals and messages on
      +-- worker 0
      +-- worker 1 ...

- `supervisor`: the parent. It holds the listening sockets, so that a connection that waits for a
  worker which dies is served by the one in its place.
- `worker`: the child, ``python -m zerorouter.gateway.workers.worker``; `member` is its line to the
  others, `channel` what goes over it.
- `merging`: the metrics of all as one text.
- `starting`: from options to a running supervisor.

What is shared over processes and how: keys, accounts and rate limits are files that all map or
read (`books`); each worker has a journal of its own and all store into one database; what is
learned is learned by whoever holds a lock and read by all (`learning`); the configuration is read
by each; metrics are added up by the supervisor; sessions are told to the others as they are served.
Circuits are each worker's own: each finds out for itself that an upstream fails.
"""
