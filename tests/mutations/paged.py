"""Mutations of the page: who sees what, and who may act."""

from tests.mutations.mutation import Mutation

PAGE = "tests/integration/test_ui"

PAGED = (
    Mutation(
        "the page answers under any name",
        "ui/app.py",
        "if host_of(request) not in hosts:",
        "if False:",
        f"{PAGE}_routes.py::test_another_host_is_refused",
    ),
    Mutation(
        "any token is good",
        "ui/acting.py",
        "or not acting.tokens.is_good(request.path_qs, token):",
        "or False:",
        f"{PAGE}_routes.py::test_what_a_forged_request_asks_for_is_not_done",
    ),
    Mutation(
        "actions are for all",
        "ui/acting.py",
        "if not rights.actions:",
        "if False:",
        f"{PAGE}_routes.py::test_each_action_with_each_right",
    ),
    Mutation(
        "names are put into pages as they are",
        "ui/render.py",
        "autoescape=True",
        "autoescape=False",
        f"{PAGE}_routes.py::test_a_hostile_name_is_shown_linked_and_found",
    ),
    Mutation(
        "payloads are for all",
        "pool/client/page.py",
        "if payloads else {}",
        "if True else {}",
        "tests/integration/test_pool_page.py::test_payloads_are_read_where_they_are_asked_for_alone",
    ),
    Mutation(
        "of a list everybody sees all",
        "ui/access.py",
        'if job["namespace"] in granted]',
        "]",
        "tests/unit/test_page_access.py::test_of_a_list_everybody_sees_their_own",
    ),
    Mutation(
        "each viewer is read for",
        "ui/live.py",
        "max(look.asked_at + REFRESH_SECONDS, self._last_at + SPACING_SECONDS)",
        "look.asked_at + REFRESH_SECONDS",
        f"{PAGE}_live.py::test_any_number_of_viewers_costs_few_queries_and_none_costs_none",
    ),
)
