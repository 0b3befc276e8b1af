"""What new customers will be worth: simulates their purchases with a known answer, trains on them, and says who is worth most.

Run as `python examples/lifetime.py`; the model is examples/lifetime.toml.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

FOLDER = Path("runs/lifetime")


def customers(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Customers in order of their first purchase, and what each is worth on average: the best that any model can say.

    Most never come back; what the others spend within a year is log-normal. Both depend on the channel they came by, the
    product they bought first, its price and the country: but not alike, so that who returns is not who spends.
    """
    world, draw = np.random.default_rng(0), np.random.default_rng(seed)
    channels, countries, products = world.normal(0, 0.8, 6), world.normal(0, 0.5, 12), world.normal(size=(150, 2))
    channel, country = draw.integers(6, size=count), draw.integers(12, size=count)
    product = draw.zipf(1.3, size=count) % 150
    price = np.exp(draw.normal(2.5, 0.8, count) + 0.3 * products[product, 1])
    dear = (np.log(price) - 2.5) / 0.8
    comes_back = -1.2 + channels[channel] + 0.6 * products[product, 0] - 0.3 * dear
    spends = 3.0 + countries[country] + 0.6 * products[product, 1] + 0.5 * dear
    chance, spread = 1 / (1 + np.exp(-comes_back)), 1.0
    value = np.where(draw.random(count) < chance, draw.lognormal(spends, spread), 0.0)
    opened = draw.random(count) < 1 / (1 + np.exp(-0.5 - 1.2 * (comes_back + 1.2)))
    columns = {"customer": np.arange(count), "day": np.sort(draw.integers(365, size=count)), "channel": channel, "country": country,
               "product": product, "price": price, "opened": opened.astype(np.int8), "value": value}  # fmt: skip
    return pl.DataFrame(columns), chance * np.exp(spends + spread**2 / 2)


def main() -> None:
    """Simulate, train, score."""
    from umbel.bundle import Bundle
    from umbel.run.run import train
    from umbel.run.settings import read

    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--customers", type=int, default=40_000)
    log, worth = customers(asked.parse_args().customers, seed=1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    log.write_parquet(FOLDER / "log.parquet")
    report = train(read(Path("examples/lifetime.toml")), FOLDER / "run")
    for name, figure in report.tasks[1].figures.metrics.items():
        print(name, figure)
    bundle = Bundle.load(FOLDER / "run" / "bundle")
    rows, scores = next(bundle.score(bundle.source))
    best = np.argsort(-scores[:, 1])[:5]
    print(rows[best].with_columns(expected=pl.Series(scores[best, 1].round(1)), worth=pl.Series(worth[best].round(1))))


if __name__ == "__main__":
    main()
