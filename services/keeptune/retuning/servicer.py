"""RetuningService: validate, call, convert."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from google.protobuf import empty_pb2

from keeptune.retuning import admission, convert, store
from keeptune.retuning import spec as specs
from keeptune.retuning.checks import Checks
from keeptune.retuning.model import Policy, Refusal, RetuneState, Trigger
from keeptune.runtime import names
from keeptune.runtime.auth import Role, current_caller
from keeptune.runtime.calls import calling
from keeptune.runtime.convert import to_duration
from keeptune.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    KeeptuneError,
    NotFound,
    PermissionDenied,
)
from keeptune.runtime.events import Events
from keeptune.runtime.ledger import answered, mutate
from keeptune.v1 import deployment_pb2, retuning_pb2, retuning_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    import grpc.aio
    from sqlalchemy import Connection

    from keeptune.retuning.loop import Loop
    from keeptune.retuning.peers import Peers
    from keeptune.runtime.clock import Clock
    from keeptune.runtime.db import Database
    from keeptune.runtime.records import Record

    ServicerContext = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger()

# How long a check may wait for a service that is away; the request itself can do without.
_CHECK_SECONDS = 3.0


class _NotNowError(Exception):
    """Leaves the transaction without an entry in the ledger: the same request, asked again later,
    may get another answer."""

    def __init__(self, why: admission.Answer, answer: retuning_pb2.RequestRetuneResponse) -> None:
        super().__init__(why.reason)
        self.why = why
        self.answer = answer


class RetuningServicer(retuning_pb2_grpc.RetuningServiceServicer):
    def __init__(self, database: Database, peers: Peers, loop: Loop, clock: Clock) -> None:
        self._database = database
        self._peers = peers
        self._checks = Checks(peers)
        self._loop = loop
        self._clock = clock

    # --- policies ---

    async def ApplyPolicy(
        self, request: retuning_pb2.ApplyPolicyRequest, context: ServicerContext
    ) -> retuning_pb2.Policy:
        # A repeated request is answered as it was, even if its data has gone meanwhile.
        earlier = await self._database.read(
            lambda c: answered(
                c,
                request_id=request.request_id,
                method="ApplyPolicy",
                request=request,
                response_type=retuning_pb2.Policy,
            )
        )
        if earlier is not None:
            return earlier
        name = names.policy_name(request.policy_id)
        wanted = specs.with_defaults(request.policy)
        wanted.name = name
        known = await self._database.read(lambda c: store.policies.find(c, name))
        if known is None or known.doc.spec != specs.dump_spec(wanted):
            await self._checks.check(wanted)
        champion = await self._champion(wanted.model)
        if request.validate_only:
            return wanted

        def work(c: Connection) -> retuning_pb2.Policy:
            return mutate(
                c,
                request_id=request.request_id,
                method="ApplyPolicy",
                request=request,
                response_type=retuning_pb2.Policy,
                fn=lambda: self._described(
                    c, self._apply(c, name, wanted, champion, request.policy.metadata.etag)
                ),
            )

        policy = await self._database.run(work)
        self._loop.wake()
        return policy

    def _apply(
        self,
        c: Connection,
        name: str,
        wanted: retuning_pb2.Policy,
        champion: str | None,
        etag: str,
    ) -> Record[Policy]:
        other = store.policy_of_model(c, wanted.model)
        if other is not None and other.name != name:
            raise FailedPrecondition(
                f"{wanted.model} is kept by {other.name} already",
                fix=f"change {other.name}, or delete it first",
            )
        spec = specs.dump_spec(wanted)
        found = store.policies.find(c, name)
        labels = dict(wanted.labels)
        cooldown = specs.cooldown_of(wanted)
        if found is None:
            record = store.policies.create(
                c, name, Policy(model=wanted.model, spec=spec, cooldown=cooldown), labels=labels
            )
        elif found.doc.spec == spec:
            return found
        else:
            if found.doc.model != wanted.model:
                raise InvalidInput(
                    field="policy.model",
                    problem=f"is {wanted.model}, but {name} is about {found.doc.model}",
                    fix="make a policy of another name for another model",
                )
            doc = replace(
                found.doc, spec=spec, cooldown=cooldown, generation=found.doc.generation + 1
            )
            record = store.policies.put(c, name, doc, etag=etag or None, labels=labels)
        if not champion and store.open_retune(c, name) is None:
            store.start(c, record, Trigger.FIRST, self._clock.now(), retune_id=_retune_id(record))
        return store.policies.get(c, name)

    async def _champion(self, model: str) -> str | None:
        """The version that should serve; "" = none, None = the registry cannot be asked now."""
        try:
            found = await calling(
                self._peers.deployment.GetModel(
                    deployment_pb2.GetModelRequest(name=model), timeout=_CHECK_SECONDS
                )
            )
        except NotFound:
            return ""
        except KeeptuneError as error:
            if error.retryable:
                return None
            raise
        return str(found.champion)

    async def GetPolicy(
        self, request: retuning_pb2.GetPolicyRequest, context: ServicerContext
    ) -> retuning_pb2.Policy:
        return await self._database.read(
            lambda c: self._described(c, store.policies.get(c, request.name))
        )

    async def ListPolicies(
        self, request: retuning_pb2.ListPoliciesRequest, context: ServicerContext
    ) -> retuning_pb2.ListPoliciesResponse:
        def read(c: Connection) -> retuning_pb2.ListPoliciesResponse:
            page = store.policies.list(
                c,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
            return retuning_pb2.ListPoliciesResponse(
                policies=[self._described(c, record) for record in page.items],
                next_page_token=page.next_page_token,
            )

        return await self._database.read(read)

    def _described(self, c: Connection, record: Record[Policy]) -> retuning_pb2.Policy:
        last = store.last_retune(c, record.doc)
        return convert.policy_message(record, last=last, now=self._clock.now())

    async def DeletePolicy(
        self, request: retuning_pb2.DeletePolicyRequest, context: ServicerContext
    ) -> empty_pb2.Empty:
        def delete(c: Connection) -> empty_pb2.Empty:
            running = store.open_retune(c, request.name)
            if running is not None:
                raise FailedPrecondition(
                    f"{running.name} is under way",
                    fix=f"wait for it, or keeptune retune cancel {running.name}",
                )
            store.policies.delete(c, request.name, etag=request.etag or None)
            return empty_pb2.Empty()

        return await self._database.run(
            lambda c: mutate(
                c,
                request_id=request.request_id,
                method="DeletePolicy",
                request=request,
                response_type=empty_pb2.Empty,
                fn=lambda: delete(c),
            )
        )

    # --- retunes ---

    async def RequestRetune(
        self, request: retuning_pb2.RequestRetuneRequest, context: ServicerContext
    ) -> retuning_pb2.RequestRetuneResponse:
        if request.force and current_caller().role is Role.AGENT:
            raise PermissionDenied(
                "force is not for agents",
                field="force",
                fix="leave it out; a person may force a retune",
            )
        policy = await self._database.read(lambda c: _target(c, request))
        champion = await self._champion(policy.doc.model)

        def work(c: Connection) -> retuning_pb2.RequestRetuneResponse:
            return mutate(
                c,
                request_id=request.request_id,
                method="RequestRetune",
                request=request,
                response_type=retuning_pb2.RequestRetuneResponse,
                fn=lambda: self._admit(c, request, champion),
            )

        try:
            answer = await self._database.run(work)
        except _NotNowError as error:
            await self._note_refusal(policy.name, request, error)
            return error.answer
        self._loop.wake()
        return answer

    def _admit(
        self,
        c: Connection,
        request: retuning_pb2.RequestRetuneRequest,
        champion: str | None,
    ) -> retuning_pb2.RequestRetuneResponse:
        policy = _target(c, request)
        evidence = convert.evidence_of(request.evidence)
        running = store.open_retune(c, policy.name)
        now = self._clock.now()
        answer = admission.admit(
            policy.doc,
            open_retune=running.name if running else "",
            last=store.last_retune(c, policy.doc),
            evidence=evidence,
            champion=champion,
            force=request.force,
            now=now,
        )
        if answer.admission is admission.Admission.STARTED:
            trigger = Trigger.SIGNAL if evidence else Trigger.MANUAL
            running = store.start(
                c,
                policy,
                trigger,
                now,
                retune_id=_retune_id(policy),
                evidence=evidence,
                note=request.note,
            )
        elif running is not None:
            joined = running.doc.join(evidence)
            if joined != running.doc:
                running = store.save(c, running, joined)
        response = retuning_pb2.RequestRetuneResponse(
            decision=convert.decision_number(answer.admission.value),
            retune=convert.retune_message(running) if running else None,
            reason=answer.reason,
            retry_after=to_duration(answer.retry_after),
        )
        if running is None:
            raise _NotNowError(answer, response)
        return response

    async def _note_refusal(
        self, policy: str, request: retuning_pb2.RequestRetuneRequest, error: _NotNowError
    ) -> None:
        refusal = Refusal(
            time=self._clock.now(),
            decision=error.why.admission.value,
            reason=error.why.reason,
            note=request.evidence[0].summary if request.evidence else request.note,
        )
        log.info("retune refused", policy=policy, reason=refusal.reason, note=refusal.note)
        await self._database.run(lambda c: store.mark_refused(c, policy, refusal))

    async def GetRetune(
        self, request: retuning_pb2.GetRetuneRequest, context: ServicerContext
    ) -> retuning_pb2.Retune:
        record = await self._database.read(lambda c: store.retunes.get(c, request.name))
        return convert.retune_message(record)

    async def ListRetunes(
        self, request: retuning_pb2.ListRetunesRequest, context: ServicerContext
    ) -> retuning_pb2.ListRetunesResponse:
        page = await self._database.read(
            lambda c: store.retunes.list(
                c,
                filter=request.filter,
                order_by=request.order_by,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )
        return retuning_pb2.ListRetunesResponse(
            retunes=[convert.retune_message(r) for r in page.items],
            next_page_token=page.next_page_token,
        )

    async def WatchRetunes(
        self, request: retuning_pb2.WatchRetunesRequest, context: ServicerContext
    ) -> AsyncIterator[retuning_pb2.WatchRetunesResponse]:
        async for event in Events.watch(self._database, "retunes", request.revision):
            record = store.retunes.from_event(event)
            if record is None or request.policy not in ("", record.doc.policy):
                continue
            yield retuning_pb2.WatchRetunesResponse(
                revision=event.revision, retune=convert.retune_message(record)
            )

    async def ApproveRetune(
        self, request: retuning_pb2.ApproveRetuneRequest, context: ServicerContext
    ) -> retuning_pb2.Retune:
        def approve(c: Connection) -> retuning_pb2.Retune:
            record = store.retunes.get(c, request.name)
            if record.doc.state is not RetuneState.AWAITING_APPROVAL:
                raise FailedPrecondition(
                    f"{record.name} is {record.doc.state}, not AWAITING_APPROVAL",
                    fix=f"keeptune retune show {record.name} tells where it stands",
                )
            approved = replace(record.doc, approved=True, note=request.note or record.doc.note)
            return convert.retune_message(store.save(c, record, approved))

        return await self._mutate_retune("ApproveRetune", request, approve)

    async def CancelRetune(
        self, request: retuning_pb2.CancelRetuneRequest, context: ServicerContext
    ) -> retuning_pb2.Retune:
        def cancel(c: Connection) -> retuning_pb2.Retune:
            record = store.retunes.get(c, request.name)
            if record.doc.state.ended:
                raise FailedPrecondition(
                    f"{record.name} has ended: {record.doc.state}", fix="nothing is left to do"
                )
            # The first word stands: what it set off is repeated with the same request ids.
            reason = record.doc.cancel_requested or request.reason or "cancelled by hand"
            cancelled = replace(record.doc, cancel_requested=reason)
            return convert.retune_message(store.save(c, record, cancelled))

        return await self._mutate_retune("CancelRetune", request, cancel)

    async def _mutate_retune(
        self,
        method: str,
        request: retuning_pb2.ApproveRetuneRequest | retuning_pb2.CancelRetuneRequest,
        fn: Callable[[Connection], retuning_pb2.Retune],
    ) -> retuning_pb2.Retune:
        answer = await self._database.run(
            lambda c: mutate(
                c,
                request_id=request.request_id,
                method=method,
                request=request,
                response_type=retuning_pb2.Retune,
                fn=lambda: fn(c),
            )
        )
        self._loop.wake()
        return answer


def _target(c: Connection, request: retuning_pb2.RequestRetuneRequest) -> Record[Policy]:
    if request.WhichOneof("target") == "policy":
        return store.policies.get(c, request.policy)
    found = store.policy_of_model(c, request.model)
    if found is None:
        raise NotFound(
            f"no policy keeps {request.model}",
            field="model",
            fix="keeptune policy apply -f policy.yaml makes one",
        )
    return found


def _retune_id(policy: Record[Policy]) -> str:
    """Counted, so that people can talk about it; drawn, so that a policy deleted and made again
    never meets the studies and trainings of its former life."""
    return f"{names.parse_policy(policy.name)}-{policy.doc.retunes + 1}-{secrets.token_hex(2)}"
