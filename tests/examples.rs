//! Do the examples run?

mod embed {
    include!("../examples/embed.rs");

    #[test]
    fn runs() {
        main().unwrap();
    }
}
