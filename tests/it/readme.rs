//! What the README shows can be used as it stands.

use supervisor::settings::Settings;

#[test]
fn the_smallest_settings_of_the_readme_load_and_are_under_twenty_lines() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (settings, _) = rest.split_once("```").unwrap();
    assert!(settings.lines().filter(|line| !line.is_empty()).count() < 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisor.toml");
    std::fs::write(&path, settings).unwrap();
    let settings = Settings::load_with(&path, []).unwrap();
    assert_eq!(settings.servers.len(), 2);
}
