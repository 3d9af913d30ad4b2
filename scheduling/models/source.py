"""Sources of resources, and what each of them says of each."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from scheduling.models.job import Job


class Source(models.Model):
    """An enumerator of resources with a state of its own. Written by `scheduling.runs` only.

    `state` is whatever its code needs to go on from (a token, a moment). `version` grows with each
    change of it: who writes names the version that was read, and is refused if it is another.
    """

    name = models.CharField(max_length=200, unique=True)
    description = models.CharField(max_length=300, blank=True)
    # The jobs that have a target for each resource it names.
    jobs = models.ManyToManyField(Job, related_name="sources", blank=True)
    state = models.JSONField(default=dict, blank=True, editable=False)
    version = models.PositiveBigIntegerField(default=1, db_default=1, editable=False)

    is_trial = models.BooleanField(
        default=False, db_default=False, help_text="Lists a few resources only, and pauses them"
    )
    # Whether what it names for the first time goes through the express lane.
    is_express = models.BooleanField(default=False, db_default=False)

    # Full listings begun; a listing row keeps the number of the newest one that named it.
    listings = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    listing_began_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When a listing last came to its end, and a full one.
    listing_ended_at = models.DateTimeField(null=True, blank=True, editable=False)
    full_listing_ended_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When everything that the newest listing named first had been sent through the express lane.
    express_done_at = models.DateTimeField(null=True, blank=True, editable=False)

    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Listing(models.Model):
    """One resource as one source lists it."""

    source = models.ForeignKey(Source, models.CASCADE, related_name="named", db_index=False)
    resource = models.ForeignKey("Resource", models.CASCADE, related_name="listings")
    kwargs = models.JSONField(default=dict, blank=True)
    is_enabled = models.BooleanField(default=True, db_default=True)
    # When the resource changed last, as this source says; empty: it does not say.
    hint_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    # The number of the newest full listing that named it, and how many since then did not.
    seen_in = models.PositiveIntegerField(default=0, db_default=0)
    missed = models.PositiveSmallIntegerField(default=0, db_default=0)
    # No longer named, by the source's rule; kept as history.
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("source", "resource"), name="one_listing_per_source"),
        )
        indexes = (
            # Serves the end of a full listing: what it did not name
            models.Index(
                fields=("source", "seen_in"),
                name="listing_unseen",
                condition=Q(gone_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.resource_id} as listed by {self.source_id}"
