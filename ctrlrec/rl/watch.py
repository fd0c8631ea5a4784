"""Watch for a policy that collapses into empty or endless answers."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from ctrlrec.errors import CtrlRecError
from ctrlrec.rl.rollout import Answer

log = logging.getLogger(__name__)

_COLLAPSED = 5  # iterations of nothing but empty answers


class CollapseWatch:
    """Count empty and endless answers from iteration to iteration.

    Args:
        ends: tokens that end an answer.
        rollouts: file that messages refer to.
    """

    def __init__(self, ends: Collection[int], rollouts: Path):
        self.ends, self.rollouts = ends, rollouts
        self._degenerate, self._all_empty = False, 0

    def __call__(self, iteration: int, answers: Sequence[Answer]) -> int:
        """Return the number of answers without an end; warn once if most are empty or endless.

        Raises:
            CtrlRecError: if every answer of the last iterations is empty: there is nothing left to learn from.
        """
        empty = sum(not answer.titles for answer in answers)
        unended = sum(answer.tokens[-1] not in self.ends for answer in answers)
        degenerate = 2 * max(empty, unended) > len(answers)
        if degenerate and not self._degenerate:
            log.warning(
                "%-12s iteration %d: of %d answers %d are empty and %d have no end", "rl", iteration, len(answers),
                empty, unended,
            )  # fmt: skip
        self._degenerate = degenerate
        self._all_empty = self._all_empty + 1 if empty == len(answers) else 0
        if self._all_empty == _COLLAPSED:
            raise CtrlRecError(
                f"the policy has collapsed: all {len(answers)} answers of each of the last {_COLLAPSED} iterations are "
                f"empty; lower rl.learning_rate or raise rl.kl_coefficient, and see {self.rollouts}"
            )
        return unended
