//! The stock metrics.

pub mod alignment;
pub mod best_nn;
pub mod feature_statistics;
pub mod instance_discrimination;
pub mod intra_class_alignment;
pub mod judged;
pub mod nearest;
pub mod over_clustering;
pub mod rank_me;
pub mod ridge;
pub mod space;
pub mod uniformity;

pub use alignment::Alignment;
pub use best_nn::BestNN;
pub use feature_statistics::FeatureStatistics;
pub use instance_discrimination::InstanceDiscrimination;
pub use intra_class_alignment::IntraClassAlignment;
pub use over_clustering::OverClustering;
pub use rank_me::RankMe;
pub use ridge::RidgeProbe;
pub use uniformity::Uniformity;
