"""What all admin pages of Beatkeeper share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import CharField, JSONField, Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList as UnfoldChangeList

from scheduling.admin.fields import StrictJsonField, printable

M = TypeVar("M", bound=Model)


def is_id(field: Any, value: Any) -> bool:
    """Whether the column can hold it: with anything else, Django fails when it asks for the row."""
    try:
        field.clean(value, None)
    except ValidationError:
        return False
    return True


def may_see_arguments(request: HttpRequest) -> bool:
    """Also what becomes an argument: the parameters that sources give with resources. Who may
    change a job or a target sees its own without this.
    """
    return request.user.has_perm("scheduling.view_run_output")


class ChosenRow(AutocompleteSelect):
    """Shows a refused form with what was chosen, unless that is no id at all."""

    def optgroups(self, name: str, value: Sequence[str], attrs: Any = None) -> Any:
        field = self.field.target_field
        return super().optgroups(name, [each for each in value if is_id(field, each)], attrs)


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

    class ChoosesRows:
        def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any):
            if db_field.name in self.get_autocomplete_fields(request):
                using = kwargs.get("using")
                kwargs.setdefault("widget", ChosenRow(db_field, self.admin_site, using=using))
            return super().formfield_for_foreignkey(db_field, request, **kwargs)

    class ModelAdmin(ChoosesRows, UnfoldModelAdmin):
        """`ModelAdmin[Job]` is for the type checker only."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

        # Columns that are not to be guessed letter by letter, as in `?output__startswith=a`.
        unguessable: Collection[str] = ()

        def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
            if lookup.split("__")[0] in self.unguessable:
                return False
            return super().lookup_allowed(lookup, value, request)

        def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
            return ChangeList

        def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
            field = super().formfield_for_dbfield(db_field, request, **kwargs)
            if field is not None and isinstance(db_field, CharField):
                field.validators = [*field.validators, printable]
            return field

        def response_action(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
            """Refuse what is no id before the action asks the database for it, and fails."""
            ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
            if not all(is_id(self.opts.pk, each) for each in ticked):
                self.message_user(request, "Nothing was chosen", messages.WARNING)
                return HttpResponseRedirect(request.get_full_path())
            return super().response_action(request, queryset)

    class TabularInline(ChoosesRows, UnfoldTabularInline):
        def __class_getitem__(cls, _: object) -> type:
            return cls

    class ModelForm(forms.ModelForm):
        def __class_getitem__(cls, _: object) -> type:
            return cls

    class ChangeList(UnfoldChangeList):
        """Takes an address that asks for an impossible id or year for what it is: mistyped."""

        def get_results(self, request: HttpRequest) -> None:
            try:
                super().get_results(request)
                len(self.result_list)
            except (DataError, OverflowError, ValueError) as error:
                raise IncorrectLookupParameters(error) from error


class WithPage:
    """Gives the template of its form, as `page`, what stands above the fields."""

    def page_of(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """For those who may view it."""
        raise NotImplementedError

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        admin: Any = super()
        obj = self.get_object(request, object_id)  # type: ignore[attr-defined]
        if obj is not None and self.has_view_permission(request, obj):  # type: ignore[attr-defined]
            extra_context = {**(extra_context or {}), "page": self.page_of(request, obj)}
        shown: HttpResponse = admin.change_view(request, object_id, form_url, extra_context)
        return shown


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
        if isinstance(db_field, JSONField):
            kwargs["form_class"] = StrictJsonField
        field = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if isinstance(db_field, JSONField) and "class" in getattr(field.widget, "attrs", ()):
            field.widget.attrs |= {"rows": 2, "class": f"{field.widget.attrs['class']} bk-mono"}
        return field
