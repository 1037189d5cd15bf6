// SPDX-License-Identifier: GPL-2.0

//! Takes the C side out of `patches/`, compiles it with the shim, and reads its headers.

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What of the series is compiled here.
const FILES: [&str; 4] = [
    "mm/async_pgtable.c",
    "mm/async_pgtable.h",
    "include/linux/async_pgtable.h",
    "include/trace/events/async_pgtable.h",
];

/// What stands for the rest of the kernel.
const SHIM: [&str; 6] = ["sched", "cpu", "memory", "migrate", "mmap", "process"];

/// The files of the series, as its patches leave them.
///
/// `ASYNC_PGTABLE_PATCHES` names another directory; `ASYNC_PGTABLE_SEEDED` a patch on top, which
/// may also be one of the shim: it calls the hooks.
fn extract(here: &Path, patches: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out)?;
    let apply = |patch: &Path| -> Result<(), Box<dyn Error>> {
        let mut git = Command::new("git");
        // Not the repository that we are in.
        git.env("GIT_CEILING_DIRECTORIES", out.parent().ok_or("no parent")?);
        git.arg("apply")
            .current_dir(out)
            .stdin(Stdio::from(File::open(patch)?));
        git.args(FILES.map(|file| format!("--include={file}")));
        git.arg("--include=shim/*");
        if !git.status()?.success() {
            return Err(format!("git apply failed: {}", patch.display()).into());
        }
        Ok(())
    };
    for name in fs::read_to_string(patches.join("series"))?.lines() {
        let patch = patches.join(name.trim());
        // git apply refuses a patch of which it includes nothing.
        let text = fs::read_to_string(&patch)?;
        if FILES
            .iter()
            .any(|file| text.contains(&format!("\n+++ b/{file}\n")))
        {
            apply(&patch)?;
        }
    }
    fs::create_dir(out.join("shim"))?;
    for name in SHIM {
        let name = format!("shim/{name}.c");
        fs::copy(here.join(&name), out.join(&name))?;
    }
    println!("cargo::rerun-if-env-changed=ASYNC_PGTABLE_SEEDED");
    if let Some(seeded) = env::var_os("ASYNC_PGTABLE_SEEDED") {
        println!("cargo::rerun-if-changed={}", Path::new(&seeded).display());
        apply(Path::new(&seeded))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let series = PathBuf::from(env::var("OUT_DIR")?).join("series");
    println!("cargo::rerun-if-env-changed=ASYNC_PGTABLE_PATCHES");
    let patches = match env::var_os("ASYNC_PGTABLE_PATCHES") {
        Some(dir) => PathBuf::from(dir),
        None => here.join("../../patches"),
    };
    for input in [&patches, &here.join("include"), &here.join("shim")] {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    extract(&here, &patches, &series)?;

    let include = [
        here.join("include"),
        series.join("include"),
        series.join("mm"),
    ];
    // HARNESS_CFLAGS: what the sanitizers want, see ci/lanes/21-harness.
    println!("cargo::rerun-if-env-changed=HARNESS_CFLAGS");
    let flags = env::var("HARNESS_CFLAGS").unwrap_or_default();
    cc::Build::new()
        .file(series.join("mm/async_pgtable.c"))
        .files(SHIM.map(|name| series.join(format!("shim/{name}.c"))))
        .includes(&include)
        .define("CONFIG_ASYNC_PGTABLE", None)
        .std("gnu11")
        // As the kernel is built.
        .flags([
            "-fno-strict-aliasing",
            "-funsigned-char",
            "-Wno-unused-parameter",
            "-Wno-sign-compare",
        ])
        .flags(flags.split_whitespace())
        .warnings_into_errors(true)
        .try_compile("async_pgtable")?;

    bindgen::Builder::default()
        .header(here.join("include/bindings_helper.h").display().to_string())
        .clang_args(include.iter().map(|dir| format!("-I{}", dir.display())))
        .clang_args(["-DCONFIG_ASYNC_PGTABLE", "-std=gnu11"])
        .allowlist_file(format!("{}.*", here.join("include").display()))
        .allowlist_file(format!("{}.*", series.display()))
        // Implemented in Rust.
        .blocklist_function("async_pgtable_(builder|session|tracker)_.*")
        .blocklist_item("PMD_SIZE")
        .use_core()
        .ctypes_prefix("crate::ffi")
        .derive_default(true)
        .layout_tests(false)
        .generate()?
        .write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
