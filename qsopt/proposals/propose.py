"""Proposals for a question, from the first to the last step; what was found so far is an answer at
any time.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from qsopt.interrupts import keeping
from qsopt.precision import in_float64, same_precision
from qsopt.proposals.answers import Answer, ProposalQuestion, task_of
from qsopt.proposals.fields import Task
from qsopt.proposals.judgement import judge, keep
from qsopt.proposals.points import Progress, State
from qsopt.proposals.sides import Companion, dense_matches, reference_sides
from qsopt.proposals.stages import search_all


@in_float64
def propose(question: ProposalQuestion, progress: Progress = lambda _: None) -> Answer:
    """Architectures that serve most at the quality asked for, and what is known about them.

    An interrupt ends the search and keeps what was found.

    Args:
        question: what is asked.
        progress: told what is being done.

    Raises:
        InputError: if the question has no meaning.
    """
    task = task_of(question)
    answer, found = Answer(question, task, State(task)), Event()

    def told(words: str) -> None:
        progress(words)
        if answer.state.best:
            found.set()

    with ThreadPoolExecutor(1, initializer=same_precision()) as beside:
        sides = beside.submit(_sides, question, task, found)

        def stand_beside() -> None:
            found.set()  # there may be no design
            answer.reference, answer.usual, answer.dense = sides.result()

        try:
            with keeping():
                search_all(answer, told)
                progress("reference and dense matches")
                stand_beside()
                judge(answer, progress)
                answer.complete = True
        except KeyboardInterrupt:
            progress("interrupted: what was found is kept")
            stand_beside()
            keep(answer)
        finally:
            found.set()
    return answer


def _sides(
    question: ProposalQuestion, task: Task, found: Event
) -> tuple[Companion | None, Companion | None, tuple[Companion, ...]]:
    """The reference in its best deployment and in the usual one, and its dense matches; begun when
    a first design is found, which would come later for it.
    """
    found.wait()
    model = question.reference
    if model is None:
        return None, None, ()
    best, usual = reference_sides(question.name, model, task)
    return best, usual, tuple(dense_matches(model, float(task.goal.size), task))
