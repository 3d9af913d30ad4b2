"""What the models promise is there in the database after the migrations, on either of them."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection, models

pytestmark = pytest.mark.django_db

MODELS = list(apps.get_app_config("scheduling").get_models())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_each_constraint_and_index_is_in_the_database(model: type[models.Model]) -> None:
    """Django may drop one by mistake when a field changes: its own books would not tell."""
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, model._meta.db_table)
    promised = {each.name for each in (*model._meta.constraints, *model._meta.indexes)}
    assert promised <= set(there), promised - set(there)
    for constraint in model._meta.constraints:
        if isinstance(constraint, models.UniqueConstraint):
            assert there[constraint.name]["unique"]
