"""Turns at a server: never more than so many, the needed ones first, and none lost."""

from __future__ import annotations

import asyncio

import pytest

from eosin.clients.turns import Turns, needed


def test_those_that_are_needed_first_go_first() -> None:
    async def run() -> list[int]:
        turns, order = Turns(1), []

        async def one(place: int) -> None:
            needed.set(place)
            async with turns:
                order.append(place)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(one(p) for p in (5, 3, 9, 1, 3)))
        return order

    assert asyncio.run(run()) == [5, 1, 3, 3, 9]  # the first found the turn free


@pytest.mark.parametrize("number", [1, 3])
def test_never_more_than_so_many_and_none_lost(number: int) -> None:
    async def run() -> tuple[int, int]:
        turns, now, most, done = Turns(number), 0, 0, 0

        async def one(place: int) -> None:
            nonlocal now, most, done
            async with turns:
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.0005)
                now -= 1
                done += 1

        tasks = [asyncio.create_task(one(i)) for i in range(30)]
        await asyncio.sleep(0.001)
        for task in tasks[::4]:  # some that run, some that wait, some just let in
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(5):  # all turns are free again
            await asyncio.gather(*(one(0) for _ in range(2 * number)))
        return most, done

    most, done = asyncio.run(run())
    assert most == number and done >= 22
