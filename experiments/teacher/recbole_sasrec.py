"""Train RecBole's own SASRec on a finished data stage and rank every user's held-out items.

Runs in an environment of its own, which needs recbole==1.2.1 and not this project:

    python experiments/teacher/recbole_sasrec.py runs/data/<name> recbole.json --seed 0

Sizes, dropout, optimiser and batch are RecBole's defaults for SASRec (width 64, 2 layers, 2 heads). Only the loss (CE),
the history length (10), the split (leave one out), the candidates (all items) and the metric of early stopping
(NDCG@10) are set, to what this project does.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

HISTORY = 10


def read(directory: Path) -> tuple[list[str], list[list[int]]]:
    titles = [json.loads(line)["title"] for line in (directory / "catalogue.jsonl").open(encoding="utf-8")]
    index = {title: item for item, title in enumerate(titles)}
    rows = (json.loads(line) for line in (directory / "sequences.jsonl").open(encoding="utf-8"))
    return titles, [[index[title] for title in row["items"]] for row in rows]


def write_atomic_file(sequences: list[list[int]], folder: Path) -> None:
    """RecBole sorts by timestamp: the place in the sequence stands for it, so that no tie is broken another way."""
    with (folder / "data" / "data.inter").open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(sequences):
            file.writelines(f"u{user}\ti{item}\t{place}\n" for place, item in enumerate(items))


@torch.no_grad()
def ranks(model: SASRec, dataset, sequences: list[list[int]], n_items: int, held_out: int) -> dict[str, list[int]]:
    """0-based rank of each user's target, the ``held_out``-th item from the end, under two rules about the history."""
    tokens = torch.tensor([dataset.token2id("item_id", f"i{item}") for item in range(n_items)])
    histories = [items[:-held_out][-HISTORY:] for items in sequences]
    targets = torch.tensor([items[-held_out] for items in sequences])
    padded = torch.zeros(len(sequences), HISTORY, dtype=torch.long)
    for row, history in enumerate(histories):
        padded[row, : len(history)] = tokens[history]
    lengths = torch.tensor([len(history) for history in histories])
    model.eval()
    scores = model.full_sort_predict({model.ITEM_SEQ: padded, model.ITEM_SEQ_LEN: lengths})[:, tokens]
    own = scores.gather(1, targets[:, None])
    before = (scores > own) | ((scores == own) & (torch.arange(n_items) < targets[:, None]))
    kept = torch.ones_like(before)
    for row, history in enumerate(histories):
        kept[row, history] = False
    return {"nothing": before.sum(1).tolist(), "history": (before & kept).sum(1).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="directory of a finished data stage")
    parser.add_argument("result", type=Path, help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=300, help="most epochs")
    arguments = parser.parse_args()
    titles, sequences = read(arguments.data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_atomic_file(sequences, folder)
        settings = {
            "data_path": str(folder), "checkpoint_dir": str(folder), "seed": arguments.seed, "use_gpu": False,
            "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": HISTORY, "loss_type": "CE", "train_neg_sample_args": None,
            "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
            "metrics": ["Hit", "NDCG"], "topk": [5, 10], "valid_metric": "NDCG@10", "stopping_step": 10,
            "epochs": arguments.epochs, "show_progress": False,
        }  # fmt: skip
        sys.argv = sys.argv[:1]  # RecBole would read options of its own from it
        config = Config(model="SASRec", dataset="data", config_dict=settings)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, validation, test = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        model = SASRec(config, train.dataset)
        trainer = Trainer(config, model)
        trainer.saved_model_file = str(folder / "best.pth")
        epochs = []

        def finished(epoch: int, score: float) -> None:
            epochs.append((time.monotonic() - started, score))
            print(f"epoch {epoch + 1}: validation NDCG@10 {score:.4f}, {time.monotonic() - started:.0f} s", flush=True)

        started, processor = time.monotonic(), time.process_time()
        trainer.fit(train, validation, verbose=False, saved=True, show_progress=False, callback_fn=finished)
        wall, processor = time.monotonic() - started, time.process_time() - processor
        # The file was written by this very process a moment ago.
        model.load_state_dict(torch.load(folder / "best.pth", weights_only=False)["state_dict"])
        result = {
            "command": f"recbole_sasrec.py runs/data/<name> recbole.json --seed {arguments.seed}",
            "packages": {"recbole": "1.2.1", "torch": torch.__version__, "numpy": np.__version__},
            "threads": torch.get_num_threads(), "seed": arguments.seed, "epochs": len(epochs),
            "seconds": round(wall, 1), "processor_seconds": round(processor, 1),
            "best_epoch": int(np.argmax([score for _, score in epochs])) + 1, "validation": epochs,
            "parameters": sum(p.numel() for p in model.parameters()),
            "settings": {key: config[key] for key in (
                "hidden_size", "inner_size", "n_layers", "n_heads", "hidden_dropout_prob", "attn_dropout_prob",
                "learning_rate", "weight_decay", "train_batch_size", "stopping_step")},
            "own_test_result": {key: float(value) for key, value in
                                trainer.evaluate(test, load_best_model=False, show_progress=False).items()},
            "users": len(sequences), "items": len(titles),
            "ranks": {split: ranks(model, dataset, sequences, len(titles), held_out)
                      for split, held_out in (("validation", 2), ("test", 1))},
        }  # fmt: skip
    arguments.result.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
