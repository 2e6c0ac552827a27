import threading

import trio
import trio.testing

from anonfsd._alarm import Alarm


def test_a_thread_wakes_who_waits_and_what_was_set_before_is_not_waited_for() -> None:
    alarm, woken = Alarm(), []

    async def wait_thrice() -> None:
        alarm.set()
        await alarm.wait()
        await alarm.wait()
        woken.append("at once")
        alarm.clear()
        threading.Timer(0.01, alarm.set).start()
        await alarm.wait()
        woken.append("by a thread")

    async def give_up() -> None:
        alarm.clear()
        with trio.move_on_after(0):
            await alarm.wait()
        alarm.set()
        await alarm.wait()

    trio.run(wait_thrice)
    trio.run(give_up)
    assert woken == ["at once", "by a thread"]


def test_an_event_loop_that_has_ended_hears_nothing() -> None:
    alarm = Alarm()

    async def wait_for_ever() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarm.wait)
            await trio.testing.wait_all_tasks_blocked()
            waiting.append(alarm._waiting)
            nursery.cancel_scope.cancel()

    waiting: list[object] = []
    trio.run(wait_for_ever)
    alarm._waiting = waiting[0]  # type: ignore[assignment]
    alarm.set()
