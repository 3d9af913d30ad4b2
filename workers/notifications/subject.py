"""What a notification is about, as far as that is still there."""

from __future__ import annotations

from dataclasses import dataclass

from scheduling.models import Circuit, Job, Notification, Resource, Run, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    row: Notification
    run: Run | None = None
    job: Job | None = None
    target: Target | None = None
    circuit: Circuit | None = None

    @classmethod
    def of(cls, row: Notification) -> Subject:
        if row.run_id is not None:
            known = Run.objects.select_related("job__circuit", "target__resource")
            run = known.get(pk=row.run_id)
            return cls(
                row=row,
                run=run,
                job=run.job,
                target=run.target,
                circuit=run.job.circuit if run.job is not None else None,
            )
        if row.circuit_id is not None:
            return cls(row=row, circuit=row.circuit)
        target = None
        if row.target_id is not None:
            target = Target.objects.select_related("resource").get(pk=row.target_id)
        job = Job.objects.select_related("circuit").filter(name=row.name).first()
        return cls(
            row=row, job=job, target=target, circuit=job.circuit if job is not None else None
        )

    @property
    def key(self) -> str:
        if self.run is not None:
            return self.run.key
        return self.target.key if self.target is not None else ""

    @property
    def scopes(self) -> list[Job | Resource | Circuit]:
        """Who may have recipients of their own and may be muted."""
        resource = self.target.resource if self.target is not None else None
        return [scope for scope in (self.job, resource, self.circuit) if scope is not None]
