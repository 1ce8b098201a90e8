from lap_monai.data import drawn_order, natural_key


def test_numbers_in_names_sort_as_numbers():
    names = ["video10", "video2", "2", "10", "a", "video2_00100", "video2_20"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "video2", "video2_20", "video2_00100", "video10"]


def test_drawn_order_depends_on_names_and_salt_only():
    names = [f"video{i:02d}" for i in range(30)]
    order = drawn_order(names, "x", 1)
    assert drawn_order([*reversed(names), *names], "x", 1) == order
    assert sorted(order) == names
    assert order not in (names, drawn_order(names, "x", 2))


def test_leaving_names_do_not_reorder_the_others():
    names = [f"video{i:02d}" for i in range(30)]
    rest = drawn_order(names[5:], 7)
    assert [name for name in drawn_order(names, 7) if name in set(rest)] == rest
