//! docs/settings.md says what the table says.
use std::path::Path;

#[test]
fn settings_page_is_what_the_table_renders() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let page = std::fs::read_to_string(&path).expect("docs/settings.md");
    assert!(
        page == tricorn_settings::render::settings_markdown(),
        "docs/settings.md is stale: cargo run -p tricorn-settings --example render_docs > docs/settings.md"
    );
}
