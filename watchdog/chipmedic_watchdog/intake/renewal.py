"""A node's new certificate for the one that it shows: the second method of the agents' service."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import grpc
from grpc.aio import ServicerContext

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.access import enrolment
from chipmedic_watchdog.access.authority import Authority, Issued
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.intake.gate import Gate
from chipmedic_watchdog.intake.refusals import Refused
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store.database import Database

log = logging.getLogger(__name__)

Context = ServicerContext[bytes, pb.RenewReply]


@dataclass(slots=True)
class Renewal:
    """Signs what a node asks for over its own certificate."""

    database: Database
    authority: Authority
    gate: Gate
    metrics: Metrics
    lifetime_seconds: float
    clock: Clock

    async def renew(self, data: Any, context: Context) -> pb.RenewReply:
        """Answer one request."""
        try:
            issued = await self._issue(pb.RenewRequest.FromString(data), context)
        except (enrolment.NotEnrolled, Refused, ValueError) as e:
            self.metrics.certificates_refused.labels("renew").inc()
            log.warning("certificate not renewed: peer=%s why=%s", context.peer(), e)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(e))
        self.metrics.certificates_issued.labels("renew").inc()
        return pb.RenewReply(certificate=issued.pem, authority=self.authority.pem)

    async def _issue(self, asked: pb.RenewRequest, context: Context) -> Issued:
        peer = self.gate.peer(context.auth_context())
        if not peer.serial:
            raise enrolment.NotEnrolled("no certificate was shown")
        self.gate.admit(peer, asked.node)
        request = enrolment.Request(node=asked.node, csr=asked.csr)
        now = self.clock.now()
        issued = await self.database.write(
            lambda c: enrolment.renew(
                c,
                self.authority,
                request,
                serial=peer.serial,
                lifetime_seconds=self.lifetime_seconds,
                now=now,
            )
        )
        log.info("certificate renewed: node=%s serial=%s", asked.node, issued.serial)
        return issued
