// SPDX-License-Identifier: GPL-2.0

//! A Redis server of our own, connections to it, clients that write, and what becomes of that.

mod client;
mod data;
mod history;
mod info;
mod load;
mod rdb;
mod replica;
mod resp;
mod server;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use data::Contents;
pub use data::Data;
pub use history::Cut;
pub use history::History;
pub use history::Outcome;
pub use history::Write;
pub use info::Info;
pub use load::Choice;
pub use load::Load;
pub use load::Pace;
pub use load::Ratio;
pub use load::Start;
pub use load::Traffic;
pub use replica::Replica;
pub use server::Server;
pub use server::Settings;
