"""What all admin pages of Beatkeeper share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib.admin import AdminSite
from django.db.models import JSONField, Model
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList as UnfoldChangeList

M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    # Unfold ships no types; its classes extend Django's.
    from django.contrib.admin import ModelAdmin as ModelAdmin
    from django.contrib.admin import TabularInline as TabularInline
    from django.contrib.admin.views.main import ChangeList as ChangeList
    from django.forms import ModelForm as ModelForm
else:
    from django import forms
    from unfold.admin import ModelAdmin as UnfoldModelAdmin
    from unfold.admin import TabularInline as UnfoldTabularInline

    class ModelAdmin(UnfoldModelAdmin):
        """`ModelAdmin[Job]` is for the type checker only."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    class TabularInline(UnfoldTabularInline):
        def __class_getitem__(cls, _: object) -> type:
            return cls

    class ModelForm(forms.ModelForm):
        def __class_getitem__(cls, _: object) -> type:
            return cls

    ChangeList = UnfoldChangeList


class ReadOnly:
    """History is looked at, never edited."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class NeverCounted:
    """For tables that grow without end: no page of theirs counts rows."""

    paginator = InfinitePaginator
    show_full_result_count = False
    list_disable_select_all = True
    list_per_page = 50


def page_context(
    site: AdminSite, request: HttpRequest, model: type[Model], **values: Any
) -> dict[str, Any]:
    """The context of a page of ours that stands under a model's pages."""
    return {**site.each_context(request), "opts": model._meta, **values}


class SmallJson:
    """JSON is typed into two lines of code, not into half a page."""

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if isinstance(db_field, JSONField) and "class" in getattr(field.widget, "attrs", ()):
            field.widget.attrs |= {"rows": 2, "class": f"{field.widget.attrs['class']} bk-mono"}
        return field
