"""The networks of this project and of the released program, plainly written in PyTorch, for `speed.py --against torch`.

Weights are random: only times are asked. Images are NCHW, as PyTorch's convolutions like them. `render_*` and `step_*` make a
function without arguments that does the work of one frame.
"""
import torch
import torch.nn.functional as F
from torch import nn


class BlendNet(nn.Module):
  """The U-Net of `models/blend_net.py`."""

  def __init__(self, width, align_corners):
    super().__init__()
    layer = lambda a, b: nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    double = lambda *sizes: nn.Sequential(*[layer(a, b) for a, b in zip(sizes, sizes[1:])])
    self.inc, self.down_1, self.down_2 = double(3, width, width), double(width, 2 * width, 2 * width), double(*[2 * width] * 3)
    self.up_1, self.up_2 = double(4 * width, 2 * width, width), double(2 * width, width, width)
    self.out = nn.Conv2d(width, 3, 1)
    self.up = nn.Upsample(scale_factor=2, mode='bilinear', align_corners=align_corners)

  def forward(self, rgb):
    fine = self.inc(rgb)
    middle = self.down_1(F.max_pool2d(fine, 2))
    h = self.down_2(F.max_pool2d(middle, 2))
    for skip, up in ((middle, self.up_1), (fine, self.up_2)):
      h = self.up(h)
      rows, columns = skip.shape[2] - h.shape[2], skip.shape[3] - h.shape[3]
      h = up(torch.cat([skip, F.pad(h, (0, columns, 0, rows))], 1))
    return self.out(h)


class AudioNet(nn.Module):
  """Four strided convolutions and two dense layers (released program)."""

  def __init__(self, num_channels):
    super().__init__()
    sizes = (num_channels, 32, 32, 64, 64)
    self.convs = nn.ModuleList(nn.Conv1d(a, b, 3, 2, 1) for a, b in zip(sizes, sizes[1:]))
    self.dense = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)])

  def forward(self, window):
    x = window.transpose(1, 2)
    for conv in self.convs:
      x = F.leaky_relu(conv(x), 0.02)
    return self.dense[1](F.leaky_relu(self.dense[0](x.mean(2)), 0.02))


class LipField(nn.Module):
  """The released program's network of place, speech and time: 8 layers of 256, the input again after the 5th."""

  def __init__(self, width=256, depth=8, skip_after=5):
    super().__init__()
    self.first, self.again = (nn.ModuleList(nn.Linear(n, width) for n in (42, 64, 20)) for _ in range(2))
    self.layers = nn.ModuleList(nn.Linear(2 * width if i == skip_after else width, width) for i in range(depth))
    self.last, self.skip_after = nn.Linear(width, 3), skip_after

  def forward(self, place, code, time):
    join = lambda layers: layers[0](place) + layers[1](code) + layers[2](time)
    h, skip = join(self.first), join(self.again)
    for i, layer in enumerate(self.layers):
      h = F.relu(layer(torch.cat([skip, h], -1) if i == self.skip_after else h))
    return self.last(h)


class ProductField(nn.Module):
  """The default field: products of a network of place and one of speech."""

  def __init__(self, width=128, depth=4, rank=64):
    super().__init__()
    layer = lambda a: nn.Sequential(nn.Linear(a, width), nn.ReLU())
    mlp = lambda inputs, outputs: nn.Sequential(layer(inputs), *[layer(width) for _ in range(depth - 1)], nn.Linear(width, outputs))
    self.place, self.speech, self.rank = mlp(42, 3 * rank + 3), mlp(64, rank), rank

  def forward(self, place, code):
    basis = self.place(place)
    return torch.einsum('pcr,br->bpc', basis[:, :3 * self.rank].reshape(-1, 3, self.rank), self.speech(code)) + basis[:, -3:]


class Alex(nn.Module):
  """LPIPS's trunk and its distance."""

  def __init__(self):
    super().__init__()
    self.convs = nn.ModuleList([nn.Conv2d(3, 64, 11, 4, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.Conv2d(192, 384, 3, 1, 1),
                                nn.Conv2d(384, 256, 3, 1, 1), nn.Conv2d(256, 256, 3, 1, 1)])
    self.requires_grad_(False)

  def features(self, x):
    found = []
    for i, conv in enumerate(self.convs):
      x = F.relu(conv(F.max_pool2d(x, 3, 2) if i in (1, 2) else x))
      found.append(F.normalize(x, dim=1))
    return found

  def forward(self, a, b):
    return sum((x - y).square().sum(1).mean() for x, y in zip(self.features(a), self.features(b)))


def _paste(rgb_lip, frame, coords, box):
  """Lips [1, 3, h, w] put into the canonical face and read at coords; the frame where the lip rectangle is not."""
  top, left, height, width = box
  canonical = F.pad(rgb_lip, (left, frame.shape[3] - left - width, top, frame.shape[2] - top - height))
  inside = F.pad(torch.ones_like(rgb_lip[:, :1]), (left, frame.shape[3] - left - width, top, frame.shape[2] - top - height))
  read = F.grid_sample(torch.cat([canonical, inside], 1), coords, align_corners=False)
  return read[:, :3] + (1 - read[:, 3:]) * frame


class Released:
  """The released program's work at `size`, lip box `box`: whole-frame Blend-Net, coordinates of the frame at hand."""

  def __init__(self, size, box):
    self.audio, self.field, self.blend, self.alex = AudioNet(29), LipField(), BlendNet(64, True), Alex()
    self.box, self.frame = box, torch.rand(1, 3, size, size)
    self.window, self.place, self.time = torch.rand(1, 16, 29), torch.rand(box[2] * box[3], 42), torch.rand(1, 20)
    lines = torch.linspace(-1, 1, size)
    self.coords = torch.stack(torch.meshgrid(lines, lines, indexing='xy'), -1)[None]
    self.optimizer = torch.optim.Adam([p for net in (self.audio, self.field, self.blend) for p in net.parameters()], 1e-4)

  def lips(self, code, evaluations):
    rgb = sum(self.field(self.place, code, self.time) for _ in range(evaluations)) / evaluations
    return rgb.T.reshape(1, 3, self.box[2], self.box[3])

  @torch.no_grad()
  def render(self):
    self.blend.eval()
    return self.blend(_paste(self.lips(self.audio(self.window), 1), self.frame, self.coords, self.box))

  def step(self):
    self.blend.train()
    lips = self.lips(self.audio(self.window), 4)
    picture = self.blend(_paste(lips, self.frame, self.coords, self.box))
    true_lips = torch.rand_like(lips)
    loss = F.mse_loss(lips, true_lips) + F.mse_loss(picture, self.frame)
    loss = loss + 0.01 * (self.alex(picture, self.frame) + self.alex(lips, true_lips))
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()


class Ours:
  """The default model's networks at the same shapes: field of products, Blend-Net on the window."""

  def __init__(self, window, box, width):
    self.audio, self.field, self.blend = AudioNet(80), ProductField(), BlendNet(width, False)
    self.box, self.frame = box, torch.rand(1, 3, *window)
    self.window, self.place = torch.rand(1, 32, 80), torch.rand(box[2] * box[3], 42)
    ys, xs = torch.linspace(-1.2, 1.2, window[0]), torch.linspace(-1.2, 1.2, window[1])
    self.coords = torch.stack(torch.meshgrid(xs, ys, indexing='xy'), -1)[None]
    self.optimizer = torch.optim.AdamW([p for net in (self.audio, self.field, self.blend) for p in net.parameters()], 1e-4)

  def picture(self):
    lips = self.field(self.place, self.audio(self.window))[0].T.reshape(1, 3, self.box[2], self.box[3])
    read = F.grid_sample(lips, self.coords, align_corners=False, mode='bicubic')
    inside = (self.coords.abs() <= 1).all(-1)[:, None]
    merged = torch.where(inside, read, self.frame)
    return lips, merged + self.blend(merged)

  @torch.no_grad()
  def render(self):
    self.blend.eval()
    return self.picture()

  def step(self):
    self.blend.train()
    lips, picture = self.picture()
    loss = F.mse_loss(lips, torch.rand_like(lips)) + F.mse_loss(picture, self.frame)
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
