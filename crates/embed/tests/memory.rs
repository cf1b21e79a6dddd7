//! Measures what a loaded model costs a process: private memory, and no threads. It needs a process of its
//! own, so this is one test.

mod support;

use leann_embed::Role;
use support::{default_model, embed, int8_model, load};

/// Returns this process's private memory in MB, without mapped files.
fn own_megabytes() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn the_weights_are_not_copied_and_no_thread_stays() {
    let threads_before = threads();
    support::library();
    // The weights have 90 MB, and 43 MB packed again; in 8 bits 23 MB and 11 MB. Most of the rest is the
    // vocabulary.
    for folder in [default_model(), int8_model()] {
        let before = own_megabytes();
        let model = load(&folder);
        let loaded = own_megabytes() - before;
        let text = "a few words of a text that is neither long nor short, again and again. ".repeat(20);
        let texts = vec![text.as_str(); 32];
        embed(&model, &texts, Role::Passage, 2);
        let used = own_megabytes() - before;
        assert_eq!(threads(), threads_before);
        let name = model.name();
        println!("{name}: loaded {loaded:.1} MB, after 32 texts of 256 tokens on 2 threads {used:.1} MB");
        assert!(loaded < 30.0, "{name}: {loaded} MB");
        assert!(used < 45.0, "{name}: {used} MB");
    }
}
