// SPDX-License-Identifier: GPL-2.0

//! A Redis server of our own, a connection to it, and clients that write.

mod client;
mod info;
mod load;
mod server;

pub use client::Client;
pub use info::Info;
pub use load::Data;
pub use load::Load;
pub use load::Phase;
pub use server::Server;
pub use server::Settings;
