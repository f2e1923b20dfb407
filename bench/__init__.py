"""Benchmarks on real servers, side by side with what others use: `make bench`.

They print Markdown and write it into docs/benchmarks.md. The tools that they compare with are not
dependencies of the project: they are installed into a folder of the benchmarks' own.
"""
