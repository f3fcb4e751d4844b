"""What becomes of calls whose process is killed: how many of their agents speak again, and after how long. Real
processes and sockets; the server is started again at once, and jambonz comes back as it does (0.5 s, then 1 s, 2 s).

    python -m benchmarks.recovery [--calls 20]
"""

import argparse
import asyncio

from benchmarks.added_latency import quantile
from tests.victims import BACK, recovered, responses


async def measure(calls: int) -> None:
    victims, app = await recovered(calls)
    spoke = sorted(victim.silence for victim in victims if victim.silence is not None)
    know = sum(responses(app, victim.sid)[-2:] == [BACK, "You are Ada."] for victim in victims)
    in_time = sum(seconds <= 5 for seconds in spoke)
    print(f"{calls} calls, killed: {len(spoke)} agents spoke again, {in_time} within 5 s; {know} know their caller")
    if spoke:
        print(f"silence    p50 {quantile(spoke, 0.5):5.0f}  most {spoke[-1] * 1000:5.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20)
    asyncio.run(measure(parser.parse_args().calls))


if __name__ == "__main__":
    main()
