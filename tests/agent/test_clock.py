"""What the agent asks the operating system for."""

from sidemeter.clock import SystemClock


def test_the_run_of_the_machine_has_one_name_for_every_process_in_it() -> None:
    assert SystemClock().boot_id() == SystemClock().boot_id()
    assert len(SystemClock().boot_id()) >= 32
