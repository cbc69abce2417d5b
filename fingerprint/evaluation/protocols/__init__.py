"""How publications measure, and how we do: one small document each."""

from fingerprint.evaluation.protocols.contract import Layout, Protocol, ProtocolError
from fingerprint.evaluation.protocols.nafp import NAFP
from fingerprint.evaluation.protocols.nafp_dejavu import NAFP_DEJAVU
from fingerprint.evaluation.protocols.realistic import REALISTIC
from fingerprint.evaluation.protocols.rice import RICE
from fingerprint.evaluation.protocols.singh_attention import SINGH_ATTENTION
from fingerprint.evaluation.protocols.singh_hashing import SINGH_HASHING

__all__ = ["PROTOCOLS", "Layout", "Protocol", "ProtocolError", "protocol_named"]

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (REALISTIC, NAFP, NAFP_DEJAVU, SINGH_ATTENTION, SINGH_HASHING, RICE)
}


def protocol_named(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ProtocolError: there is none.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"There is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
