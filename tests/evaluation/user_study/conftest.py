"""A user study, and the browser for its page.

Not for the whole session: while Playwright is there, nothing else can run an event loop.
"""

import pytest
from playwright.sync_api import sync_playwright

from evaluation.user_study.page import write_study
from tests.evaluation.user_study.studies import two_in
from tests.raters import FEW, LAUNCH, opened, two_systems


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  return two_in(tmp_path_factory.mktemp('two'))


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  return two_systems(tmp_path_factory.mktemp('videos'))


@pytest.fixture(scope='module')
def study(folders, tmp_path_factory):
  return write_study(*folders, tmp_path_factory.mktemp('study') / 'out', **FEW)


@pytest.fixture(scope='module')
def playwright():
  with sync_playwright() as playwright:
    yield playwright


@pytest.fixture(scope='module')
def browser(playwright):
  browser = playwright.chromium.launch(**LAUNCH)
  yield browser
  browser.close()


@pytest.fixture
def tab(browser, study):
  context = browser.new_context(accept_downloads=True)
  with opened(context, study) as tab:
    yield tab
  context.close()
