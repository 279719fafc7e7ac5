"""The contact sheet of a subject: what its legend says is what is drawn."""
import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from speech2lip_jax.data import schema
from speech2lip_jax.preprocess import contact
from tests.toy_subject import write_toy_subject

REPORT = {'quality': {'face_width_source_px': 100.0, 'face_grey': 120.0, 'turn_p95_degrees': 9.0, 'lost_share': 0.0,
                      'blurred_share': 0.0, 'nose_base_px': 0.3, 'nose_base_share': 0.003, 'nose_base_with_brows': 0.1,
                      'nose_base_with_mouth': 0.2},
          'tracking': {'reprojection_median_px': 0.1, 'reprojection_p95_px': 0.2, 'jitter_px': 0.05}, 'num_interpolated': 1,
          'events': {}, 'crop': {'side_per_face': 2.0}, 'seconds': {'landmarks': 1.0, 'sound': 2.0}, 'warnings': ['too short'] * 4}


@pytest.fixture(scope='module')
def subject(tmp_path_factory):
  folder = tmp_path_factory.mktemp('subject')
  write_toy_subject(folder)
  meta = dataclasses.replace(schema.validate(folder), report=REPORT)
  arrays = {name: np.load(folder / f'{name}.npy') for name in schema.ARRAYS}
  arrays['is_interpolated'][0] = True
  arrays['landmarks'] = np.random.default_rng(0).uniform(10, 50, arrays['landmarks'].shape)  # the toy has none
  return arrays, meta


@pytest.fixture(scope='module')
def sheet(subject):
  figure = contact.draw(*subject)
  figure.draw_without_rendering()
  return figure


def legend_colours(figure):
  legend, = figure.legends
  handles = zip(legend.get_texts(), legend.legend_handles, strict=True)
  return {text.get_text(): to_rgb(handle.get_facecolor() if hasattr(handle, 'get_facecolor') else handle.get_color())
          for text, handle in handles}


def test_the_legend_names_the_colours_that_are_drawn(sheet, subject):
  arrays, _ = subject
  colours = legend_colours(sheet)
  frames, canonical, masks = sheet.axes[0], sheet.axes[3], sheet.axes[5]
  dots = [to_rgb(dots.get_facecolor()[0]) for dots in frames.collections]
  assert dots[0] == colours['landmarks, interpolated'] and set(dots[1:]) == {colours['landmarks']}
  assert {to_rgb(line.get_color()) for line in frames.lines} == {colours['lip box']}
  assert to_rgb(canonical.patches[0].get_edgecolor()) == colours['lip box']
  tinted, plain = masks.images[0].get_array().astype(float), canonical.images[0].get_array().astype(float)
  face = arrays['mask_face_canonical'].astype(bool)
  head_alone = arrays['mask_head_canonical'].astype(bool) & ~face
  for name, region in (('face mask', face), ('head mask', head_alone)):
    assert region.any()
    np.testing.assert_allclose(2 * tinted[region] - plain[region], 255 * np.tile(colours[name], (region.sum(), 1)), atol=1.01)
  outside = ~face & ~head_alone
  np.testing.assert_array_equal(tinted[outside], plain[outside])


def test_nothing_covers_the_words_or_curves(sheet):
  legend, = sheet.legends
  box = legend.get_window_extent()
  assert not any(box.overlaps(text.get_window_extent()) for text in sheet.texts)
  assert not any(box.overlaps(axes.get_tightbbox()) for axes in sheet.axes if axes.get_title(loc='right'))
  for axes in sheet.axes[6:]:
    assert not axes.get_legend().get_window_extent().overlaps(axes.get_window_extent())
