//! The scenarios that ship in the binary, file by file, so that the demo needs nothing beside it.

/// One file of a scenario: its path within the folder, its bytes.
pub(crate) type File = (&'static str, &'static [u8]);

macro_rules! files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        ($folder, &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/scenarios/", $folder, "/", $path)))),*])
    };
}

/// Every scenario by its folder's name; the first one is what the demo plays unless told otherwise. The ground truth stays out.
pub(crate) const SHIPPED: &[(&str, &[File])] = &[
    files!("bad-image-rollout":
        "alert-02.json",
        "alert.json",
        "cluster.json",
        "logs/shop/cart-hr2pxfsnd-7vn7s/cart.log",
        "logs/shop/cart-hr2pxfsnd-88qv8/cart.log",
        "logs/shop/checkout-ztmvh6dgk-5b7tw/checkout.log",
        "logs/shop/checkout-ztmvh6dgk-bwcvq/checkout.log",
        "logs/shop/checkout-ztmvh6dgk-tbk5f/checkout.log",
        "logs/shop/storefront-xp9hhzw8d-sdsvd/storefront.log",
        "logs/shop/storefront-xp9hhzw8d-xfdfv/storefront.log",
        "model/1/0001.json",
        "model/1/0002.json",
        "model/1/0003.json",
        "trigger.json",
    ),
    files!("oom-loop":
        "alert-02.json",
        "alert.json",
        "cluster.json",
        "logs/shop/cart-nzpzvv2rq-fs5d7/cart.log",
        "logs/shop/cart-nzpzvv2rq-vjw7j/cart.log",
        "logs/shop/pricing-z5w6whvwm-8k95p/pricing.log",
        "logs/shop/pricing-z5w6whvwm-8k95p/pricing.previous.log",
        "logs/shop/pricing-z5w6whvwm-lf9xd/pricing.log",
        "logs/shop/pricing-z5w6whvwm-lf9xd/pricing.previous.log",
        "logs/shop/pricing-z5w6whvwm-xt27d/pricing.log",
        "logs/shop/pricing-z5w6whvwm-xt27d/pricing.previous.log",
        "logs/shop/storefront-85q9h879x-sg2dg/storefront.log",
        "logs/shop/storefront-85q9h879x-xldwv/storefront.log",
        "model/1/0001.json",
        "model/1/0002.json",
        "model/1/0003.json",
        "trigger.json",
    ),
];
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sim::world::Scenario;

    #[test]
    fn what_ships_is_what_the_folders_hold() {
        for (name, files) in SHIPPED {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios").join(name);
            let mut there = Scenario::from_folder(&folder).unwrap().files;
            there.remove("truth.json");
            let here: BTreeMap<String, Vec<u8>> =
                files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
            let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&here), names(&there));
            assert!(here == there, "{name}: an embedded file differs");
        }
    }
}
