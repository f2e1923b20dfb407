"""Which images a Dockerfile builds upon."""

import pytest

from blocks.dockerfile import base_images


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM python:3.12-slim\nRUN true\n", ("python:3.12-slim",)),
        ("from alpine as base\nFROM base\n", ("alpine",)),
        ("# FROM commented\nFROM --platform=linux/amd64 alpine:3\n", ("alpine:3",)),
        ("FROM golang AS build\nFROM alpine\nCOPY --from=build /a /a\n", ("alpine", "golang")),
        ("FROM golang AS build\nFROM alpine\nCOPY --from=0 /a /a\n", ("alpine", "golang")),
        ("FROM node AS tests\nFROM alpine\n", ("alpine",)),
        ("FROM scratch\nCOPY --from=ghcr.io/a/b:1 /a /a\n", ("ghcr.io/a/b:1",)),
        ("FROM alpine\nRUN --mount=type=bind,from=tools,target=/t true\n", ("alpine", "tools")),
        ("FROM \\\n  alpine:3 \\\n  AS x\n", ("alpine:3",)),
        ("ARG BASE=alpine:3\nFROM ${BASE}\n", ("alpine:3",)),
        ('ARG BASE="alpine:3"\nFROM $BASE\n', ("alpine:3",)),
        ("ARG TAG\nFROM python:${TAG:-3.12}\n", ("python:3.12",)),
        ("ARG UNKNOWN\nFROM $UNKNOWN\n", ()),
        ("", ()),
        ("RUN true\n", ()),
    ],
)
def test_what_the_last_stage_needs_from_elsewhere(text: str, images: tuple[str, ...]) -> None:
    assert base_images(text, {}) == images


def test_a_build_argument_wins_over_the_default() -> None:
    text = "ARG BASE=alpine:3\nARG TAG\nFROM ${BASE}\nCOPY --from=tools:$TAG /a /a\n"

    assert base_images(text, {"BASE": "debian:12"}) == ("debian:12",)
    assert base_images(text, {"TAG": "7"}) == ("alpine:3", "tools:7")
