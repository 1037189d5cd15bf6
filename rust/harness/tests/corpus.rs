// SPDX-License-Identifier: GPL-2.0

//! What the fuzzer has kept in `corpus/`, and what it has found in `findings/`.

use std::{fs, path::Path};

use harness::program::Program;

fn runs_without_a_finding() {
    let (mut files, mut bytes, mut sessions) = (0, 0, 0);
    for dir in ["corpus", "findings"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("a file").path();
            eprintln!("{}", path.to_string_lossy());
            let program = fs::read(&path).expect("a file");
            sessions += Program::decode(&program).run_scheduled().sessions;
            files += 1;
            bytes += program.len();
        }
    }
    println!("corpus: {files} files, {bytes} bytes, {sessions} sessions");
    assert!(
        files < 200 && bytes < 200 << 10,
        "tools/fuzz --merge makes it smaller"
    );
    assert!(sessions > 0);
}

harness::tests!(runs_without_a_finding);
