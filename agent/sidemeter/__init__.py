"""Sidemeter's agent: record usage beside the service, forward it exactly once, decide limits in memory."""

from sidemeter.agent import Agent
from sidemeter.client import Client
from sidemeter.errors import (
    AgentStopped,
    BufferFull,
    DirectoryInUse,
    InDoubt,
    InvalidInput,
    NotRecorded,
    SettingsError,
    SidemeterError,
    StorageRefused,
    Unreachable,
)
from sidemeter.events import Event, Receipt
from sidemeter.limits import Decision, QuotaView
from sidemeter.reservation import Reservation
from sidemeter.settings import Settings
from sidemeter.state import AgentState

__all__ = [
    "Agent",
    "AgentState",
    "AgentStopped",
    "BufferFull",
    "Client",
    "Decision",
    "DirectoryInUse",
    "Event",
    "InDoubt",
    "InvalidInput",
    "NotRecorded",
    "QuotaView",
    "Receipt",
    "Reservation",
    "Settings",
    "SettingsError",
    "SidemeterError",
    "StorageRefused",
    "Unreachable",
]
