from protocol.receipts import CROWD, Receipts


def held(count: int) -> Receipts:
    receipts = Receipts()
    for tag in range(1, count + 1):
        receipts.delivered(tag)
    return receipts


def answer(receipts: Receipts, *tags: int) -> None:
    for tag in tags:
        receipts.answered(tag)


def test_one_acknowledgement_stands_for_all_up_to_the_oldest_open_delivery() -> None:
    receipts = held(4)
    answer(receipts, 3, 1, 2)
    assert receipts.due(patient=True) == [(3, True)]
    answer(receipts, 4)
    assert receipts.due(patient=True) == [(4, False)]
    assert not receipts.waiting


def test_an_answer_behind_an_open_delivery_is_acknowledged_on_its_own() -> None:
    receipts = held(3)
    answer(receipts, 2)
    assert receipts.due(patient=True) == [(2, False)]
    answer(receipts, 1, 3)
    assert receipts.due(patient=True) == [(3, True)]


def test_a_crowd_behind_an_open_delivery_waits_for_it_or_until_patience_ends() -> None:
    receipts = held(2 * CROWD)
    answer(receipts, *range(2, CROWD + 2))
    assert receipts.due(patient=True) == []
    assert receipts.waiting
    answer(receipts, 1)
    assert receipts.due(patient=True) == [(CROWD + 1, True)]
    answer(receipts, *range(CROWD + 3, 2 * CROWD + 1))
    assert len(receipts.due(patient=False)) == CROWD - 2
    assert not receipts.waiting


def test_a_delivery_that_was_refused_holds_nothing_up() -> None:
    receipts = held(3)
    receipts.refused(1)
    answer(receipts, 2, 3)
    assert receipts.due(patient=True) == [(3, True)]
