import numpy as np
from PIL import Image

from tests.bench.projected_or_real import Pictures, rate


def make_pictures(num_bags, in_bag):
    bags = [f"bag {number // in_bag}" for number in range(num_bags * in_bag)]
    is_projected = [number % 2 == 1 for number in range(len(bags))]
    return Pictures([lambda: Image.new("RGB", (8, 8))] * len(bags), bags, is_projected)


def test_what_tells_projections_apart_is_found_and_what_names_bags_is_not():
    random, pictures = np.random.default_rng(0), make_pictures(num_bags=60, in_bag=4)
    noise_ND = random.normal(size=(240, 30))
    auc, low, high = rate(noise_ND, pictures, 100)
    assert low < 0.5 < high and low < auc < high
    # A picture of a bag is near its others: a regression that had seen the bag would know the one by the other.
    of_bag_ND = np.repeat(random.normal(size=(60, 30)), 4, axis=0)
    assert abs(rate(of_bag_ND + 0.01 * noise_ND, pictures, 1)[0] - 0.5) < 0.1
    shifted_ND = noise_ND + 2 * np.array(pictures.is_projected)[:, None] * (np.arange(30) == 3)
    auc, low, high = rate(shifted_ND, pictures, 100)
    assert 0.8 < low < auc < high < 0.97
