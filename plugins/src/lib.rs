//! Links the stock plugins: `use smallfry_plugins as _;` in a program registers them all.

use smallfry_augmentations as _;
use smallfry_backbones as _;
use smallfry_datasets as _;
use smallfry_metrics as _;
use smallfry_objectives as _;
use smallfry_optimizers as _;
