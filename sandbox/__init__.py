"""A whole small world to deploy into: an example backend and the real parts around it.

A git origin, a container engine, an image registry, PostgreSQL, a staging and a production host
of the example backend behind a proxy, a Prefect server and a worker, all on this machine.

Nothing in the pipeline imports this package.
"""
