"""Benchmarks on real servers, side by side with what others use: `make bench`.

They print Markdown and write it into docs/benchmarks.md. What they compare with is no dependency
of the project: it is installed into a folder of the benchmarks' own.
"""
