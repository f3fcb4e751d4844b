"""How long a change of a call on another node takes by REST: from the request to the answer, which comes once the call
has it; and what part of that is the way by Redis. Two nodes, Redis, one call.

    python -m benchmarks.cluster [--times 500]
"""

import argparse
import asyncio
import time

from benchmarks.added_latency import quantile
from tests import programs
from tests.cluster import CALLS, Machine, cluster, until

CHANGE = {"agent_update": {"type": "update_instructions", "instructions": "Be brief. " * 20}}


async def changed(machine: Machine) -> float:
    """Seconds."""
    began = time.monotonic()
    answer = await machine.rest.put(f"{CALLS}/there", json=CHANGE)
    assert answer.status_code == 202, answer.text
    return time.monotonic() - began


async def measure(times: int) -> tuple[list[float], list[float]]:
    async with programs.redis() as redis, cluster(redis.url, lifetime=10.0) as (one, other), other.call("there"):
        await until(one.listed, ["there"])
        found: tuple[list[float], list[float]] = ([], [])
        for machine in (other, one) * 10:
            await changed(machine)
        for _ in range(times):
            for machine, seconds in zip((other, one), found, strict=True):
                seconds.append(await changed(machine))
                await asyncio.sleep(0.005)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500)
    own, others = asyncio.run(measure(parser.parse_args().times))
    for name, values in (("its own node", own), ("another node", others)):
        print(f"asked of {name}  p50 {quantile(values, 0.5):5.2f}  p99 {quantile(values, 0.99):5.2f} ms")
    print(f"the way by Redis       p50 {quantile(others, 0.5) - quantile(own, 0.5):5.2f} ms")


if __name__ == "__main__":
    main()
