"""Entry script: names the species of each iris in a mini-batch."""

import argparse

import joblib
import pandas as pd

model = None


def init():
    """Loads the model; called once in each process, before its first mini-batch."""
    global model  # noqa: PLW0603  (what init() loads and run() uses has to live in the module)

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="the model that prepare.py stores")
    # parse_known_args, as mpibatch adds arguments of its own.
    args, _ = parser.parse_known_args()

    model = joblib.load(args.model)


def run(mini_batch):
    """Returns a row for each row of `mini_batch`, a DataFrame: its id, its species, and how probable that is."""
    print(f"run method start: {__file__}, {len(mini_batch)} rows")  # goes to logs/user/stdout
    probabilities = model.predict_proba(mini_batch[model.feature_names_in_])
    return pd.DataFrame(
        {
            "id": mini_batch["id"],
            "species": model.classes_[probabilities.argmax(axis=1)],
            "probability": probabilities.max(axis=1).round(4),
        }
    )
