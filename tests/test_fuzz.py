"""A few of the questions that `python -m tests.fuzz` makes up: each is answered or refused, none fails on our side."""

import asyncio
from pathlib import Path

import showcase
from fuzz import fuzz, internal_errors
from processes import control_plane


async def test_no_question_made_up_from_the_schema_fails_on_our_side(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await showcase.define(plane)
        await plane.make("upsertCustomer", "CustomerInput", key="acme")
        await plane.make("subscribe", "SubscribeInput", customer="acme", plan="pro")
        await showcase.caps(plane)
        found = await asyncio.to_thread(fuzz, plane, count=60, first_seed=7)
        assert found.asked == 60
        assert (found.wrong, internal_errors(plane.log.read_text())) == ({}, {})
        assert len(found.answers) > 1, found.answers
